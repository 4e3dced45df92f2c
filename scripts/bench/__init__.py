"""The benchmark: what the library costs, as ratios to the same work without it.

    make bench                            everything, some minutes
    make bench ARGS="--only call,cast --quick"
    python -m scripts.bench --json        the same without make; --markdown, --plot FILE

Absolute times say more about the machine than about the library, so each figure is divided by what the same
work costs without it, measured in the same run, in turns: a round of ours, a round of the floor, and again.

    otp_runtime/cli/bench     what `otp bench` has, too: the floor, the first measures, the machine

    ping_pong.c     the second floor, in C; c_floor.py compiles it
    server.py       more servers that are measured
    measures.py     more measures, each against its floor
    placed.py       casts, many clients, large terms: on one core, on their own, free
    kept.py  lifecycle.py  decisions.py  scale.py  spin.py      more of them
    suite.py        all, in sections
    budget.py       what each may cost
    report.py       samples to rows, rows to a table; markdown.py, plot.py: to a page, to a picture

    check.py        `make bench-check`: ratios then (baseline.json) and now; guard.py: what a loss is
    peers.py        the same counter on other libraries (counters/), beside ours
"""
