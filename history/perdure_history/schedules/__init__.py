"""When schedules fire: calendars, cron strings and intervals, as pure functions of a spec and a time.

Kept outside ``core``, which knows no calendar; handed to it as part of its policy.
"""
