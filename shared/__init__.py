"""The app that the triggers in function_app.py call. Only `routes.calls` knows trigger types."""
