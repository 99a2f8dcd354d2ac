"""The AsyncAPI documents: what FastStream generates from the code, completed."""
