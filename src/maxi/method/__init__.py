"""The paper: matching, expansion, bags, objectives and measures, as functions of arrays and rows."""
