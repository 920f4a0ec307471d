"""The same model with one sin: it is given the time in the air, known only after landing.

Its numbers look better. Steelyard refuses it and says why.
"""

import flights

import steelyard as sy


class LandedFlight(flights.Flight):
    """A flight that nobody needs a prediction for any more."""

    air_time: float | None = sy.Field(ge=0, description="minutes in the air")


leaking_flights = sy.Model(
    name="leaking_flights",
    row=LandedFlight,
    data=flights.late_flights.data,
    label=flights.late_flights.label,
    available_after=flights.late_flights.available_after,
    estimator=flights.late_flights.estimator,
    split=flights.late_flights.split,
)
