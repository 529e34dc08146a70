"""What people read after a run: the DAG as a picture, charts, one offline HTML page. Standard library and msgspec."""
