"""A load generator for a running Millrace installation, with pass/fail checks that a CI job can rely on.

`__main__` is the command and `profiles` defines the loads. `users` runs inside Locust and records every
request and its answer in a `ledger`. The other modules run outside Locust: `service` calls the HTTP API with
a project's key, `millrace_cli` runs the `millrace` command, `stack` starts a temporary installation,
`monitor` samples memory and backlog, `conservation` compares the ledger with the metered usage, `checks`
decides pass or fail, and `summary`, `plots` and `page` write the results.

This package must never report a check as passed when the check was not made.
"""
