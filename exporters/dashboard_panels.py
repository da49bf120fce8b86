"""The few kinds of panel our dashboards are made of. Knows Grafana, not our metrics.

Only the generator imports it: grafana-foundation-sdk is a tool for development, not for the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SITE: Final = 'site=~"$site"'
HERE: Final = 'site=~"$site", service=~"$service"'
MOMENT: Final = "time:DD/MM/YYYY HH:mm:ss"  # a unit of Grafana; values are milliseconds
GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
GREY: Final = "#6e6e6e"
COVERAGE_STEPS: Final = ((None, RED), (0.9, YELLOW), (0.98, GREEN))

P = TypeVar("P", stat.Panel, timeseries.Panel, table.Panel, bargauge.Panel, statetimeline.Panel)
Steps = Sequence[tuple[float | None, str]]  # from this value on, this colour; None is the bottom


@dataclass(frozen=True, slots=True)
class Look:
    """What every panel has. `help` is the text behind the panel's i, for a duty officer. Sizes are grid units."""

    title: str
    help: str
    width: int  # of 24
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    steps: Steps = ((None, GREEN),)
    mappings: tuple[model.ValueMapping, ...] = ()
    no_value: str = "Không có số liệu"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and how its series are called."""

    expr: str
    legend: str = "{{name}}"


def words(texts: Mapping[int, tuple[str, str]]) -> tuple[model.ValueMapping, ...]:
    """Return the mapping that shows whole numbers as (text, colour)."""
    return (model.ValueMap({str(k): model.ValueMappingResult(text, colour) for k, (text, colour) in texts.items()}),)


def numbers(look: Look, queries: Sequence[Query], *, names: Mapping[str, str] | None = None) -> stat.Panel:
    """Return one large number a series, of this moment."""
    panel = (
        stat.Panel()
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    for series, text in (names or {}).items():
        panel.override_by_name(series, [model.DynamicConfigValue("displayName", text)])
    return _dress(panel, look, queries, instant=True)


def lines(
    look: Look, queries: Sequence[Query], *, names: Mapping[str, str] | None = None, stacked: bool = False
) -> timeseries.Panel:
    """Return curves over time; `names` replaces legends by words for people."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(60 if stacked else 5)
        .span_nulls(False)  # a gap is a gap: nothing was observed
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .min(0)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    for series, text in (names or {}).items():
        panel.override_by_name(series, [model.DynamicConfigValue("displayName", text)])
    return _dress(panel, look, queries)


def shares(look: Look, queries: Sequence[Query]) -> bargauge.Panel:
    """Return a bar from 0 to 1 for each series, of this moment."""
    panel = (
        bargauge.Panel()
        .min(0)
        .max(1)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    return _dress(panel, look, queries, instant=True)


def timeline(look: Look, queries: Sequence[Query]) -> statetimeline.Panel:
    """Return a coloured bar over time for each series; times without data stay empty."""
    panel = (
        statetimeline.Panel()
        .show_value(common_model.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.85)
        .fill_opacity(90)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
        )
    )
    return _dress(panel, look, queries)


@dataclass(frozen=True, slots=True)
class Column:
    """A field of a table: its name in the data, its heading, and how it is shown."""

    field: str
    heading: str
    unit: str = ""
    decimals: int | None = None
    mappings: tuple[model.ValueMapping, ...] = ()
    steps: Steps = ()


def rows(
    look: Look,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    only: model.DataTransformerConfig | None = None,
    sort: tuple[str, bool] | None = None,
) -> table.Panel:
    """Return a table of this moment with these columns alone, in this order.

    Args:
        look: title, help and size.
        queries: their values become the fields `Value #A`, `Value #B`, … (`Value` for a single one).
        columns: the fields to show.
        only: a filter of rows, applied after the queries are merged.
        sort: a heading, and whether the largest comes first.
    """
    panel = table.Panel().show_header(True)
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    if only:
        panel.with_transformation(only)
    panel.with_transformation(
        model.DataTransformerConfig("filterFieldsByName", options={"include": {"names": [c.field for c in columns]}})
    )
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "indexByName": {c.field: n for n, c in enumerate(columns)},
                "renameByName": {c.field: c.heading for c in columns},
            },
        )
    )
    for column in columns:
        if properties := _column_properties(column):
            panel.override_by_name(column.heading, properties)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort[0]).desc(sort[1])])
    return _dress(panel, look, queries, instant=True, as_table=True)


def without_value(field: str, value: float) -> model.DataTransformerConfig:
    """Return the filter that leaves out rows in which a field has this value."""
    return model.DataTransformerConfig(
        "filterByValue",
        options={
            "type": "exclude",
            "match": "any",
            "filters": [{"fieldName": field, "config": {"id": "equal", "options": {"value": value}}}],
        },
    )


def _column_properties(column: Column) -> list[model.DynamicConfigValue]:
    properties: list[model.DynamicConfigValue] = []
    if column.unit:
        properties.append(model.DynamicConfigValue("unit", column.unit))
    if column.decimals is not None:
        properties.append(model.DynamicConfigValue("decimals", column.decimals))
    if column.mappings:
        properties.append(model.DynamicConfigValue("mappings", list(column.mappings)))
    if column.steps:
        properties.append(model.DynamicConfigValue("thresholds", _thresholds(column.steps).build()))
    if column.mappings or column.steps:
        cell = {"type": "color-background", "mode": "basic"}
        properties.append(model.DynamicConfigValue("custom.cellOptions", cell))
    return properties


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    levels = [model.Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(levels)


def _target(number: int, query: Query, *, instant: bool, as_table: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(chr(ord("A") + number)).expr(query.expr).datasource(DATASOURCE)
    target.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
    if not as_table:
        target.legend_format(query.legend)
    return target.instant() if instant else target.range()


def _dress(panel: P, look: Look, queries: Sequence[Query], *, instant: bool = False, as_table: bool = False) -> P:
    panel.title(look.title).description(look.help).datasource(DATASOURCE)
    panel.span(look.width).height(look.height).unit(look.unit).no_value(look.no_value)
    panel.thresholds(_thresholds(look.steps)).mappings(list(look.mappings))
    if look.decimals is not None:
        panel.decimals(look.decimals)
    for number, query in enumerate(queries):
        panel.with_target(_target(number, query, instant=instant, as_table=as_table))
    return panel
