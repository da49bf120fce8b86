"""The forms of a page, filled in as a browser would: hidden inputs and chosen values are carried along. Pure.

Source: HTML Living Standard, sections 4.10.21 (submission) and 4.10.22 (encoding as application/x-www-form-urlencoded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from probes.base import Fault, ProbeError, one_line
from probes.web_markup import Element, Markup, Selector

FIELDS_LIMIT: Final = 500  # of one form; chosen: far more than a login has
VALUE_LIMIT: Final = 65536  # characters of one value; view states of old portals are long
_NEVER_SENT: Final = frozenset({"button", "reset", "image", "file"})


@dataclass(slots=True)
class Form:
    """A form with the fields it would send as it stands."""

    action: str
    method: str  # get or post
    encoding: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # of every field that can be filled, chosen ones or not

    def filled(self, values: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return what is sent when these fields are filled in.

        Raises:
            ProbeError: CONTENT when the form has no field of such a name: it is not the form that was meant.
        """
        for name in values:
            if name not in self.names:
                known = ", ".join(sorted(self.names)) or "none"
                raise ProbeError(Fault.CONTENT, f"the form has no field {one_line(name, 40)!r}; it has: {known}")
        kept = [(name, values.get(name, value)) for name, value in self.fields]
        sent = {name for name, _ in kept}
        return kept + [(name, value) for name, value in values.items() if name not in sent]


def find_form(markup: Markup, *, selector: Selector | None, form_id: str, name: str, action: str) -> Form:
    """Return the first form that is named so; without any name, the only one, or the one that asks for a password.

    Raises:
        ProbeError: CONTENT when there is none.
    """
    owners = _owners(markup)
    found = [
        form
        for form in (selector.find(markup) if selector else markup.elements)
        if form.tag == "form"
        and form_id in ("", form.attrs.get("id"))
        and name in ("", form.attrs.get("name"))
        and action in form.attrs.get("action", "")
    ]
    if not found:
        raise ProbeError(Fault.CONTENT, f"no such form on the page, which has {_count(markup)}")
    if len(found) > 1 and not (selector or form_id or name or action):
        asking = [e for e in markup.elements if e.attrs.get("type", "").lower() == "password" and e in owners]
        found = [owners[asking[0]]] if asking else found
    return _read(markup, found[0], owners)


def _count(markup: Markup) -> str:
    forms = [e.attrs.get("id") or e.attrs.get("name") or "without a name" for e in markup.elements if e.tag == "form"]
    return f"{len(forms)}: {', '.join(one_line(f, 30) for f in forms[:5])}" if forms else "none"


def _owners(markup: Markup) -> dict[Element, Element]:
    """Return the form of every element that belongs to one, by where it stands or by its attribute `form`."""
    by_id = {e.attrs["id"]: e for e in reversed(markup.elements) if e.tag == "form" and "id" in e.attrs}
    owners: dict[Element, Element] = {}
    for element in markup.elements:
        if element.tag == "form":
            owners[element] = element
        elif element.parent in owners:
            owners[element] = owners[element.parent]
        named = by_id.get(element.attrs.get("form", ""))
        if named is not None:
            owners[element] = named
    return owners


def _read(markup: Markup, element: Element, owners: Mapping[Element, Element]) -> Form:
    attrs = element.attrs
    method = "post" if attrs.get("method", "").lower() == "post" else "get"
    form = Form(attrs.get("action", ""), method, attrs.get("enctype", "").lower())
    inside = [e for e in markup.elements if owners.get(e) is element and "disabled" not in e.attrs]
    texts = _texts(markup, frozenset(inside))
    options = _options(inside)
    pressed = False
    for control in inside:
        name = control.attrs.get("name", "")
        kind = control.attrs.get("type", "submit" if control.tag == "button" else "text").lower()
        if control.tag not in ("input", "textarea", "select", "button") or not name or kind in _NEVER_SENT:
            continue
        if len(form.names) >= FIELDS_LIMIT:
            raise ProbeError(Fault.CONTENT, f"the form has more than {FIELDS_LIMIT} fields")
        form.names.add(name)
        if kind == "submit":
            if pressed:
                continue  # a browser sends the button that was pressed: the first
            pressed = True
        form.fields += [(name, value[:VALUE_LIMIT]) for value in _values(control, kind, options, texts)]
    return form


def _options(inside: Sequence[Element]) -> dict[Element, list[Element]]:
    found: dict[Element, list[Element]] = {}
    for element in inside:
        if element.tag == "option" and element.parent is not None:
            owner = element.parent.parent if element.parent.tag == "optgroup" else element.parent
            if owner is not None:
                found.setdefault(owner, []).append(element)
    return found


def _values(
    control: Element, kind: str, of_select: Mapping[Element, Sequence[Element]], texts: Mapping[Element, str]
) -> list[str]:
    if control.tag == "textarea":
        return [texts.get(control, "").removeprefix("\n")]
    if control.tag == "select":
        options = of_select.get(control, ())
        chosen = [e for e in options if "selected" in e.attrs]
        if not chosen and "multiple" not in control.attrs:
            chosen = list(options[:1])
        return [e.attrs.get("value", " ".join(texts.get(e, "").split())) for e in chosen]
    if kind in ("checkbox", "radio"):
        return [control.attrs.get("value", "on")] if "checked" in control.attrs else []
    return [control.attrs.get("value", "")]


def _texts(markup: Markup, wanted: frozenset[Element]) -> dict[Element, str]:
    found: dict[Element, str] = {}
    for element, text in markup.pieces:
        # Of fields alone: the text of a whole form, put together piece by piece, would take quadratic time.
        if text is not None and element.tag in ("textarea", "option") and element in wanted:
            before = found.get(element, "")
            found[element] = before if len(before) >= VALUE_LIMIT else (before + text)[:VALUE_LIMIT]
    return found
