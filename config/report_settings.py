"""The keys of `reports`: what an official report says beside the figures, and which are sent by themselves."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from config.problems import show_value
from config.settings import Address, Label, Section

_TIME_OF_DAY: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"


def _time_of_day(text: str) -> str:
    if not re.fullmatch(_TIME_OF_DAY, text):
        raise ValueError(f"expected a time of day from 00:00 to 23:59, like 07:00; got {show_value(text)}")
    return text


TimeOfDay = Annotated[str, AfterValidator(_time_of_day), Field(json_schema_extra={"pattern": f"^{_TIME_OF_DAY}$"})]


class SignerSettings(Section):
    """Who signs. What is left out is a placeholder in the report."""

    authority: Label | None = Field(
        default=None, description="Line above the title when it is not the head who signs: KT. GIÁM ĐỐC"
    )
    title: Label | None = Field(default=None, description="Title: GIÁM ĐỐC")
    name: Label | None = Field(default=None, description="Full name")


class ContactSettings(Section):
    """Whom to ask about a report, and who reports an incident."""

    name: Label | None = Field(default=None, description="Full name")
    title: Label | None = Field(default=None, description="Title")
    address: Label | None = Field(default=None, description="Postal address of the office")
    phone: Label | None = Field(default=None, description="Telephone, in quotes")
    email: Address | None = Field(default=None, description="Mail address")


class ScheduledSettings(Section):
    """When a report is sent by mail, to whom, and in which formats."""

    at: TimeOfDay = Field(default="07:00", description="Local time of day")
    to: tuple[Address, ...] = Field(default=(), description="Mail addresses; those of alerts.mail without any")
    formats: tuple[Literal["csv", "json", "xlsx", "docx", "pdf"], ...] = Field(
        default=("docx", "pdf"), description="Files that are attached: some of csv, json, xlsx, docx, pdf"
    )


class DailySettings(ScheduledSettings):
    """The daily report: of the 24 hours before it is sent."""


class WeeklySettings(ScheduledSettings):
    """The weekly report: of the seven days before it is sent."""

    on: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        default="monday", description="Day of the week"
    )


class EventReportSettings(ScheduledSettings):
    """The report after an event, for a person to look through and sign."""


class ReportSettings(Section):
    """What an official report says beside the figures. What is left out is a placeholder `[…]` for a person."""

    parent_body: Label | None = Field(default=None, description="Body above the one that issues, in the head's left")
    body: Label | None = Field(default=None, description="Body that issues the report; the site's name without one")
    symbol: Label | None = Field(default=None, description="What stands after the number: BC-STTTT")
    place: Label | None = Field(default=None, description="Place in the line of place and date")
    addressee: Label | None = Field(default=None, description="Who is addressed with Kính gửi; nobody without one")
    legal_bases: tuple[Label, ...] = Field(
        default=(), description="Directives and plans that the report carries out, one a line; a person checks them"
    )
    recipients: tuple[Label, ...] = Field(default=(), description="Lines of Nơi nhận, without the dash")
    archive: Label = Field(default="VT", description="What follows Lưu: in the last line of Nơi nhận")
    signer: SignerSettings = Field(default_factory=SignerSettings, description="Who signs")
    contact: ContactSettings = Field(default_factory=ContactSettings, description="Whom to ask")
    daily: DailySettings | None = Field(default=None, description="A report each morning, by mail")
    weekly: WeeklySettings | None = Field(default=None, description="A report each week, by mail")
    event: EventReportSettings | None = Field(
        default=None, description="The report after each event, as a draft, on the morning after it ends, by mail"
    )
