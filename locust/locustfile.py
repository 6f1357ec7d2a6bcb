"""For Locust itself; `locust/run PROFILE` starts it with everything set, and gives a verdict afterwards.

By hand, with Locust's own pages:

    MILLRACE_KEYS=mk_... locust -f locust/locustfile.py --host http://127.0.0.1:8080
"""

from load.users import *  # noqa: F403
