"""The verbs of a run, one file each: a stage reads files of the run and writes one."""
