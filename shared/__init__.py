"""What the triggers in function_app.py call: the gateway itself, free of trigger types below the
http module.
"""
