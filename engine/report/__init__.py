"""What people look at after a run: the DAG as a picture, charts, and one offline HTML page. Standard library and msgspec only."""
