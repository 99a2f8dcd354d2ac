"""What every process has around it: settings, logs, metrics, traces, signals."""
