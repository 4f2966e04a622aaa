"""What the boards have in common: panels of one look, over one data source."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import BigValueColorMode as ColorMode
from grafana_foundation_sdk.models.common import BigValueGraphMode as GraphMode
from grafana_foundation_sdk.models.common import DataSourceRef, LegendDisplayMode, LegendPlacement, TimeZoneBrowser
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, Threshold, ThresholdsMode

Query = tuple[str, str]
"""An expression of Prometheus, and the legend of its series."""

SOURCE = DataSourceRef("prometheus", "${datasource}")
_HEIGHT = 8
_THIRD = 8


def board(uid: str, title: str, description: str) -> Dashboard:
    """Return an empty board. A variable chooses the Prometheus that it reads."""
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["flow-nexus"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone(TimeZoneBrowser)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def lines(title: str, description: str, unit: str, *queries: Query, width: int = _THIRD) -> timeseries.Panel:
    """Return a panel of lines over time. `unit` is Grafana's name of it."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(_HEIGHT)
        .span(width)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel


def share(title: str, description: str, *queries: Query) -> timeseries.Panel:
    """Return a panel of shares between 0 and 1."""
    return lines(title, description, "percentunit", *queries).max(1)


def number(title: str, description: str, unit: str, *queries: Query, bad_below: float | None = None) -> stat.Panel:
    """Return a panel of the newest numbers. One below `bad_below` is red."""
    steps = [Threshold(None, "green")] if bad_below is None else [Threshold(None, "red"), Threshold(bad_below, "green")]
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(_HEIGHT)
        .span(_THIRD)
        .color_mode(ColorMode.VALUE)
        .graph_mode(GraphMode.NONE)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel


def quantile(of: float, histogram: str, *by: str, where: str = "") -> str:
    """Return the expression of a quantile of a histogram, by labels."""
    labels = ", ".join(("le", *by))
    return f"histogram_quantile({of}, sum by ({labels}) (rate({histogram}_bucket{where}[$__rate_interval])))"


def rate(counter: str, *by: str, where: str = "") -> str:
    """Return the expression of a counter's growth in a second, by labels."""
    return f"sum by ({', '.join(by)}) (rate({counter}{where}[$__rate_interval]))"


def _targets(queries: Sequence[Query]) -> list[Dataquery]:
    return [
        Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index)).datasource(SOURCE)
        for index, (expression, legend) in enumerate(queries)
    ]
