"""The Grafana dashboard "Thông Suốt — toàn cảnh", as JSON: `python -m exporters.dashboards`.

Only this generator needs grafana-foundation-sdk; the JSON is checked in and the daemon never imports this module.
Every expression has data while the monitor is scraped, also when all is well, so that an empty panel means trouble.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery

from exporters import dashboard_monitor, dashboard_services
from exporters.dashboard_panels import DATASOURCE, SITE
from exporters.rules import rule_expressions

FOLDER: Final = Path(__file__).resolve().parent / "grafana" / "provisioning" / "dashboards" / "thongsuot"
DASHBOARD_FILE: Final = FOLDER / "toan-canh.json"


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query({"query": query, "refId": name})
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["Tất cả"], value=["$__all"]))
    )


def overview() -> model.Dashboard:
    """Return the dashboard that a duty room keeps on its wall."""
    board = (
        dashboard.Dashboard("Thông Suốt — toàn cảnh")
        .uid("thongsuot-toan-canh")
        .description("Dịch vụ nào đang hỏng, từ lúc nào, lỗi phía mình hay phía họ, và ai đã được báo.")
        .tags(["thongsuot"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("15s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Nguồn số liệu").type("prometheus"))
        .with_variable(_choice("site", "Điểm giám sát", "label_values(thongsuot_build_info, site)"))
        .with_variable(_choice("service", "Dịch vụ", f"label_values(thongsuot_state{{{SITE}}}, service)"))
    )
    for title, panels in (
        ("Lúc này", dashboard_services.now()),
        ("Độ khả dụng và độ phủ đo", dashboard_services.availability()),
        ("Thời gian đáp ứng", dashboard_services.response()),
        ("Nhà mạng và đường truyền", dashboard_services.carriers()),
        ("Cảnh báo", dashboard_monitor.telling()),
        ("Chính hệ thống giám sát", dashboard_monitor.monitor()),
        ("Từng phép kiểm tra", dashboard_services.checks()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    made = board.build()
    for number, placed in enumerate(made.panels or (), 1):
        placed.id_val = number
    return made


def dashboard_json() -> str:
    """Return the whole text of the dashboard's file."""
    return json.dumps(overview(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def runnable(expr: str) -> str:
    """Put ordinary values in place of Grafana's variables: all sites and services, an hour, a rate over a minute."""
    for variable, text in (
        ("$__rate_interval", "1m"),
        ("$__range_s", "3600"),
        ("$__range", "1h"),
        ("$site", ".*"),
        ("$service", ".*"),
    ):
        expr = expr.replace(variable, text)
    return expr


def dashboard_expressions() -> list[str]:
    """Return each PromQL expression of the dashboard, runnable, in the order of the panels."""
    return [
        runnable(target.expr)
        for panel in overview().panels or ()
        if isinstance(panel, model.Panel)
        for target in panel.targets or ()
        if isinstance(target, Dataquery)
    ]


def every_expression() -> list[str]:
    """Return each expression of dashboard and rules, runnable; all have data while a monitor is scraped."""
    return dashboard_expressions() + rule_expressions()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    DASHBOARD_FILE.write_text(dashboard_json(), encoding="utf-8")
