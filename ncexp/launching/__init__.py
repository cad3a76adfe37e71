"""The life of a sweep: compose and check, plan, submit, wait; later and from elsewhere status, logs, cancel.

Everything is read from files: a sweep's folder says which runs were asked for and which job trains each, a run's own
status.json says how it stands. SLURM is asked only which jobs it still knows (squeue, never sacct).
"""
