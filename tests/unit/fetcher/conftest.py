from hypothesis import settings

# Examples are not timed, since other work may go on beside the tests, nor are they kept.
settings.register_profile("untimed", deadline=None, database=None)
settings.load_profile("untimed")
