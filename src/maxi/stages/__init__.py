"""One file a verb: each reads files of a run and writes one."""
