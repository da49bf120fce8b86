"""Telling: metrics, mail, pages, reports. Exporters know no protocol of a probe."""
