"""`jaxlung predict --ray`: a batch as a pipeline of Ray Data (extra "ray")."""
