"""Runs that train nothing: a flow of the theory, computed and recorded under the rules of a run directory."""

from ncexp.simulations.configuration import SimulationConfig, check_simulation
from ncexp.simulations.simulate import simulate

__all__ = ["SimulationConfig", "check_simulation", "simulate"]
