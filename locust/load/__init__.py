"""Realistic load on a running Millrace, and a verdict: a gate for CI.

`__main__` is the command, `profiles` what can be run. `users` runs inside Locust and writes down in a `ledger` what was sent and
answered; everything else runs beside it: `projects` has the keys, `stack` a throw-away installation, `watch` looks at
memory and backlog, `books` asks the service what it has, `checks` judges, `summary` and `plots` tell.

What this room must never do: call something passed that was not looked at.
"""
