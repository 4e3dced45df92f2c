"""The benchmark: what the library costs, as ratios to the same work without it.

    make bench                            everything, some minutes
    make bench ARGS="--only call,cast --quick"
    python -m scripts.bench --json        the same without make; --markdown, --plot FILE

Absolute times say more about the machine than about the library, so each figure is divided by what the same
work costs without it, measured in the same run, in turns: a round of ours, a round of the floor, and again.

    floor.py        the bare processes to compare with: plain pipes, msgpack, fork and kill
    ping_pong.c     the second floor, in C; c_floor.py compiles it
    server.py       the servers that are measured
    measures.py     what a measure is, and the first of them, each against its floor
    placed.py       casts, many clients, large terms: on one core, on their own, free
    kept.py  lifecycle.py  decisions.py  scale.py  spin.py      more of them
    suite.py        all, in sections
    budget.py       what each may cost
    report.py       samples to rows, rows to a table; markdown.py, plot.py: to a page, to a picture
    machine.py      where it was measured

    check.py        `make bench-check`: ratios then (baseline.json) and now; guard.py: what a loss is
    peers.py        the same counter on other libraries (counters/), beside ours
"""
