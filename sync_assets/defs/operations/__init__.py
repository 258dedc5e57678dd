"""Jobs for the operator, each calling the function that the command of the same name calls."""
