"""`movierec`: each command parses, makes one call, and prints.

`main` puts the commands together and makes an exit code of every error: 0 done, 1 a check said no, 2 wrong usage, 3 a
dependency is down, 70 a defect, 130 interrupted, 141 nobody reads the output any more. Each command
stands in the file of its group:

* `stack`: up, demo, test.
* `batch`: load, nightly.
* `recommend`: recommend.
* `traffic`: traffic, with --locust.
* `quarantine`: quarantine list, show, patch, redrive, discard.
* `keys`: keys create, list, revoke, rotate.
* `parity`: verify, repair.
* `recovery`: replay, rebuild graph.
* `similarity`: similarity list, show, publish, rollback.
* `evaluate`: evaluate, with --tune.
* `infrastructure`: provision, destroy.
* `serve`: serve api, metrics.

`invocation` is what commands are given (options that they share, their settings, who calls), `printing` where and how
they print. A command imports what it needs when it runs, so that `movierec recommend` does not wait for pandas.
"""
