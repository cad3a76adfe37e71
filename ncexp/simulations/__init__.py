"""conf/simulation: flows of the theory, as records over time; `ncexp simulate` writes them down like a run."""
