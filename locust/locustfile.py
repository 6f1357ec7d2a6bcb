"""The file that Locust loads. `locust/run PROFILE` starts Locust with it and checks the result.

To use Locust's own web page instead:

    MILLRACE_KEYS=mk_... locust -f locust/locustfile.py --host http://127.0.0.1:8080
"""

from load.users import *  # noqa: F403
