"""The method of the paper: matching, expansion, bags, objectives and metrics, as functions of arrays and rows."""
