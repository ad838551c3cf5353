"""From numbers to estimates, intervals, p-values and verdicts; nothing here knows a run folder."""
