"""From folders, tables, lists, arrays and streams to ordered, labelled items."""
