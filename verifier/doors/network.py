"""The door to the network: attestors and relying parties come in by it."""

from aiohttp import web

from verifier.doors.bodies import Bodies
from verifier.doors.forms import add_forms
from verifier.doors.listeners import STATUS_CHANGES, Listeners
from verifier.doors.refusals import tell_refusals
from verifier.doors.routes import add_routes
from verifier.service import Service


def make_app(service: Service) -> web.Application:
    """Return the door to the network."""
    app = web.Application(
        middlewares=[tell_refusals], client_max_size=service.config.most_evidence_bytes
    )
    bodies = Bodies()
    add_routes(app, service, bodies)
    add_forms(app, service, bodies)
    listeners = Listeners(service)
    app.router.add_get(STATUS_CHANGES, listeners.handle)
    app.on_shutdown.append(listeners.close)
    return app
