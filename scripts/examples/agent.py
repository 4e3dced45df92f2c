"""An agent keeps a state; the functions that its callers send run in its process, closures too."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

from otp_runtime import Agent

with Agent.start_link(dict, name="stock") as stock:

    def add(fruit, count):
        """Close over the arguments: they travel with the lambda."""
        Agent.update("stock", lambda held: {**held, fruit: held.get(fruit, 0) + count})

    add("apple", 3)
    add("pear", 2)
    add("apple", 1)

    print("apples:", Agent.get(stock, lambda held: held["apple"]))
    print("taken:", Agent.get_and_update(stock, lambda held: (held["pear"], {**held, "pear": 0})))
    print("left:", Agent.get(stock, lambda held: held))
