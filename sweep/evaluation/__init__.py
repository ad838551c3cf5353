"""One candidate: from weights to a merged model, its outputs and its rows; and the inspection of weights."""
