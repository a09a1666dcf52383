"""The local page over a run: look, judge, mend, search and classify in a browser (`maxi open`)."""
