"""What the commands share: arguments, log, errors, environment, fork server."""
