"""`Guards`: what happens with a row, or an answer, that is unlike what the model was trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from steelyard.core.fields import FieldSpec
from steelyard.errors import DefinitionError, nearest

__all__ = ["Action", "FieldRule", "Guards", "Rule", "rules_of"]

Action = Literal["refuse", "flag", "ignore"]
FieldRule = Literal["unseen", "range", "null"]
Rule = Literal["unseen", "range", "null", "empty", "output"]

_FIELD_RULES: Final[tuple[FieldRule, ...]] = get_args(FieldRule)


@dataclass(frozen=True, slots=True)
class Guards:
    """How a model guards what it is asked and what it answers; each rule by its action.

    `unseen`: a category that training did not have. `range`: a number or time far outside the
    training range. `null`: null where training had hardly any. `empty`: a row of mostly nulls.
    `output`: a regression's answer far outside of what training had; refused, it counts as failed
    and the fallback answers.

    `flag` answers and says so, `refuse` does not answer and names the field, `ignore` does not
    look. `default` is the action of every rule that is not given; `fields` sets all rules of a
    field, or single ones, before those.

    `collapse` is no rule of a row: an alarm is raised, once the model is served, when it gives one
    label or one value to nearly everything. `flag`, as it is unless `default` is `ignore`, judges by
    its answers to held-out rows; a number, by the share that one label, or a regression's value, may
    have: 0.999 where training was balanced and requests are not.

    >>> guards = Guards(null="refuse", fields={"age": "ignore", "plan": {"unseen": "refuse"}})
    >>> guards.action("null", "city"), guards.action("null", "age"), guards.action("unseen", "plan")
    ('refuse', 'ignore', 'refuse')
    >>> Guards(fields={"age": "flagg"})
    Traceback (most recent call last):
        ...
    steelyard.errors.DefinitionError: fields: age: expected an action; got 'flagg'.
    Did you mean flag?
    """

    default: Action = "flag"
    unseen: Action | None = None
    range: Action | None = None
    null: Action | None = None
    empty: Action | None = None
    output: Action | None = None
    collapse: Literal["flag", "ignore"] | float | None = None
    fields: Mapping[str, Action | Mapping[FieldRule, Action]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_action("default", "", self.default)
        for rule in get_args(Rule):
            if getattr(self, rule) is not None:
                _check_action(rule, "", getattr(self, rule))
        _check_collapse(self.collapse)
        if not isinstance(self.fields, Mapping):
            raise DefinitionError(
                f"expected actions by field; got {self.fields!r:.80}.",
                field="fields",
                fix='Write, for example, fields={"tenure": "refuse"}.',
            )
        for name, given in self.fields.items():
            if not isinstance(given, Mapping):
                _check_action("fields", f"{name}: ", given)
                continue
            for rule, action in given.items():
                if rule not in _FIELD_RULES:
                    raise DefinitionError(
                        f"{name}: {rule!r} is no rule of a field.",
                        field="fields",
                        fix=nearest(str(rule), _FIELD_RULES),
                    )
                _check_action("fields", f"{name}: {rule}: ", action)

    def action(self, rule: Rule, name: str | None = None) -> Action:
        """Return the action of a rule, for a field where the rule is a field's."""
        given = None if name is None else self.fields.get(name)
        if isinstance(given, str):
            return given
        own = given.get(rule) if given and rule in _FIELD_RULES else None
        return own or getattr(self, rule) or self.default

    @property
    def collapse_rule(self) -> dict[str, Any]:
        """How the collapse alarm is to differ from what a bundle's held-out answers say of it.

        >>> Guards().collapse_rule, Guards(collapse=0.99).collapse_rule
        ({}, {'share': 0.99})
        """
        if isinstance(self.collapse, int | float):
            return {"share": float(self.collapse)}
        ignored = (self.collapse or self.default) == "ignore"
        return {"action": "ignore"} if ignored else {}

    def check(self, fields: Iterable[FieldSpec]) -> None:
        """Raise DefinitionError for a name that is no field, or a rule that its kind has not."""
        known = {one.name: one for one in fields}
        for name, given in self.fields.items():
            if name not in known:
                raise DefinitionError(
                    f"fields: {name!r} is no field of the row.",
                    field="guards",
                    fix=nearest(str(name), known),
                )
            own = rules_of(known[name])
            for rule in given if isinstance(given, Mapping) else ():
                if rule not in own:
                    raise DefinitionError(
                        f"fields: {name} ({_kind(known[name])}) has no rule {rule}.",
                        field="guards",
                        fix=f"It has: {', '.join(own)}." if own else f"Remove {name}.",
                    )


def rules_of(field: FieldSpec) -> tuple[FieldRule, ...]:
    """Return the rules that a field of its kind can break.

    >>> rules_of(FieldSpec("plan", "str", optional=True)), rules_of(FieldSpec("age", "int"))
    (('unseen', 'null'), ('range',))
    """
    listed = field.kind in ("str", "bool") or field.choices is not None
    return ("unseen" if listed else "range", *(("null",) if field.optional else ()))


def _kind(field: FieldSpec) -> str:
    return field.kind + (" or null" if field.optional else "")


def _check_collapse(given: Any) -> None:
    if given is None or given in ("flag", "ignore"):
        return
    if isinstance(given, int | float) and not isinstance(given, bool) and 0.5 <= given < 1:
        return
    fix = (
        'Leave it out, or write "ignore" for no alarm, or the share of answers that one label or '
        "value may have, such as 0.99."
    )
    raise DefinitionError(
        f'expected "flag", "ignore" or a share from 0.5 to less than 1; got {given!r:.80}.',
        field="collapse",
        fix=fix,
    )


def _check_action(keyword: str, where: str, action: Any) -> None:
    if action not in get_args(Action):
        raise DefinitionError(
            f"{where}expected an action; got {action!r:.80}.",
            field=keyword,
            fix=nearest(str(action), get_args(Action)),
        )
