"""Every trigger of the gateway, a few lines each. What they do is in `shared/`.

The host tries HTTP functions in the order of their names, so the catch-all has the name that sorts
last. A video's id has 38 characters; what else stands at its place is looked up in the table of
`shared/routes/paths.py`, by the catch-all.
"""

import gc

# What modules leave in memory stays there: looking through it for garbage, again and again while
# they load, takes a tenth of a cold start and frees less than 1 MiB.
gc.disable()

from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared import gateway as composition
from shared.config import settings
from shared.events import couriers
from shared.events import manifest as video_manifest
from shared.routes import content, models, videos
from shared.routes import health as health_route
from shared.routes.web import Request, Response, respond
from shared.upkeep.engine import DurableEngine
from shared.upkeep.sweep import EVERY, Sweep
from shared.videos import orchestration, watch
from shared.videos.orchestration import DurableOrchestrations, Recipe, step_input
from shared.videos.step_result import StepResult
from shared.videos.steps import Steps

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # callers have keys of our own


@app.function_name("create_video")
@app.route("v1/videos", methods=["POST"])
@app.durable_client_input(client_name="durable")
async def create_video(req: Request, durable: df.DurableOrchestrationClient) -> Response:
    return await respond(req, videos.create_video, DurableOrchestrations(durable))


@app.function_name("list_videos")
@app.route("v1/videos", methods=["GET"])
async def list_videos(req: Request) -> Response:
    return await respond(req, videos.list_videos)


@app.function_name("get_video")
@app.route("v1/videos/{video_id:length(38)}", methods=["GET"])
async def get_video(req: Request) -> Response:
    return await respond(req, videos.get_video)


@app.function_name("delete_video")
@app.route("v1/videos/{video_id:length(38)}", methods=["DELETE"])
async def delete_video(req: Request) -> Response:
    return await respond(req, videos.delete_video)


@app.function_name("remix_video")
@app.route("v1/videos/{video_id}/remix", methods=["POST"])
@app.durable_client_input(client_name="durable")
async def remix_video(req: Request, durable: df.DurableOrchestrationClient) -> Response:
    return await respond(req, videos.remix_video, DurableOrchestrations(durable))


@app.function_name("get_content")
@app.route("v1/videos/{video_id}/content", methods=["GET", "HEAD"])
async def get_content(req: Request) -> Response:
    return await respond(req, content.get_content)


@app.function_name("list_models")
@app.route("v1/models", methods=["GET"])
async def list_models(req: Request) -> Response:
    return await respond(req, models.list_models)


@app.function_name("health")
@app.route("health/{probe?}", methods=["GET"])
async def health(req: Request) -> Response:
    return await respond(req, health_route.health)


@app.function_name("keys")
@app.route("key/{action}", methods=["GET", "POST"])
async def keys(req: Request) -> Response:
    from shared.routes import paths  # here and below: what few calls need is imported by the first

    return await respond(req, paths.key_action)


@app.function_name("spend_logs")
@app.route("spend/logs", methods=["GET"])
async def spend_logs(req: Request) -> Response:
    from shared.routes import reports

    return await respond(req, reports.spend_logs)


@app.function_name("spend_report")
@app.route("spend/report", methods=["GET"])
async def spend_report(req: Request) -> Response:
    from shared.routes import reports

    return await respond(req, reports.spend_report)


@app.function_name("model_info")
@app.route("model/info", methods=["GET"])
async def model_info(req: Request) -> Response:
    from shared.routes import operator

    return await respond(req, operator.model_info)


if settings.has_requests_queue():  # without one there is no such function, and nobody looks at a queue
    from shared.routes import video_requests

    @app.function_name("video_requests")
    @app.queue_trigger("message", queue_name="%VIDEO_REQUESTS_QUEUE%", connection="AzureWebJobsStorage")
    @app.durable_client_input(client_name="durable")
    async def start_requested_video(message: func.QueueMessage, durable: df.DurableOrchestrationClient) -> None:
        engine = DurableOrchestrations(durable)
        await video_requests.take(composition.current(), engine, message.id or "", message.get_body())


@app.function_name("zz_other_path")
@app.route("{*path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@app.durable_client_input(client_name="durable")
async def zz_other_path(req: Request, durable: df.DurableOrchestrationClient) -> Response:
    from shared.routes import paths

    return await respond(req, paths.other_path, DurableOrchestrations(durable))


@app.function_name(orchestration.VIDEO_LIFE)
@app.orchestration_trigger(context_name="context")
def video_life(context: df.DurableOrchestrationContext) -> Recipe:
    return orchestration.video_life(context)


@app.function_name(orchestration.VIDEO_LIFECYCLE)
@app.orchestration_trigger(context_name="context")
def video_lifecycle(context: df.DurableOrchestrationContext) -> Recipe:
    return orchestration.video_lifecycle(context)


@app.function_name(orchestration.SUBMIT)
@app.activity_trigger(input_name="video")
@app.durable_client_input(client_name="durable")
async def submit(video: Any, durable: df.DurableOrchestrationClient) -> StepResult:
    given = step_input(video)
    return await _steps(durable).submit(given.video, given.due)


@app.function_name(orchestration.CHECK)
@app.activity_trigger(input_name="video")
@app.durable_client_input(client_name="durable")
async def check(video: Any, durable: df.DurableOrchestrationClient) -> StepResult:
    given = step_input(video)
    return await _steps(durable).check(given.video, given.due, given.seen)


@app.function_name(orchestration.SAVE)
@app.activity_trigger(input_name="video")
async def save(video: str) -> StepResult:
    return await composition.current().steps.save(video)


@app.function_name(orchestration.FINISH)
@app.activity_trigger(input_name="outcome")
@app.durable_client_input(client_name="durable")
@app.blob_output(arg_name="manifest", path=video_manifest.PATH, connection="AzureWebJobsStorage")
async def finish(outcome: Any, durable: df.DurableOrchestrationClient, manifest: func.Out[str]) -> bool:
    told = await _steps(durable).finish(outcome)
    if told is not None:
        manifest.set(told)
    return told is not None


@app.function_name(orchestration.LEAVE)
@app.activity_trigger(input_name="video")
async def leave(video: str) -> None:
    await composition.current().steps.leave(video)


def _steps(durable: df.DurableOrchestrationClient) -> Steps:
    """The steps. A step that frees a slot wakes the next video through this client, and one that
    has something to tell summons couriers.
    """
    gateway = composition.current()
    gateway.go_through(DurableOrchestrations(durable))
    return gateway.steps


@app.function_name(couriers.COURIER)
@app.orchestration_trigger(context_name="context")
def courier(context: df.DurableOrchestrationContext) -> Recipe:
    return couriers.courier(context)


@app.function_name(couriers.DELIVER)
@app.activity_trigger(input_name="destination")
async def deliver(destination: str) -> float | None:
    return await composition.current().couriers.deliver(destination)


@app.function_name("sweep")
@app.timer_trigger(schedule="0 */5 * * * *", arg_name="timer")
@app.durable_client_input(client_name="durable")
async def sweep_unfinished(timer: func.TimerRequest, durable: df.DurableOrchestrationClient) -> None:
    await _sweep(durable).run()


@app.function_name(watch.WATCH)
@app.orchestration_trigger(context_name="context")
def watch_unfinished(context: df.DurableOrchestrationContext) -> Recipe:
    return watch.watch(context)


@app.function_name(watch.LOOK)
@app.activity_trigger(input_name="nothing")
@app.durable_client_input(client_name="durable")
async def look(nothing: Any, durable: df.DurableOrchestrationClient) -> bool:
    return await _sweep(durable, every=watch.EVERY).look()


def _sweep(durable: df.DurableOrchestrationClient, every: timedelta = EVERY) -> Sweep:
    gateway, engine = composition.current(), DurableEngine(durable)
    gateway.go_through(engine)
    return Sweep(gateway, engine, every)


gc.freeze()  # nor is any of it looked through later
gc.enable()
