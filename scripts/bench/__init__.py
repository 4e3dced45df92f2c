"""The benchmark: what a call, a cast, a start, a restart and an idle server cost, as ratios to a bare floor.

    make bench                            everything, about a minute
    make bench ARGS="--only call --quick"
    python -m scripts.bench --json        the same without make

Absolute times say more about the machine than about the library, so each figure is divided by what the same
work costs without it, measured in the same run, in turns: a round of ours, a round of the floor, and again.

    floor.py      the bare processes to compare with: plain pipes, msgpack, fork and kill
    server.py     the server that is measured
    measures.py   what is measured, and against which floor
    budget.py     what each may cost
    report.py     samples to rows, rows to a table
"""
