"""`baton report`: what work directories tell, as one HTML page or as JSON. Imports neither JAX nor TensorFlow."""
