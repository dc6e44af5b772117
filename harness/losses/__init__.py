"""The loss of a micro-batch and its gradients, with the model's head run at pieces of the supervised places."""
