"""The life of a sweep: compose and check, plan, submit, wait; later and from elsewhere status, logs, cancel.

The tasks of a sweep are trainings, or measurings of stored runs. Everything is read from files: a sweep's folder says
which tasks were asked for and which job works on each, a task's own status.json says how it stands. SLURM is asked only
which jobs it still knows (squeue, never sacct).
"""
