"""Will this viewer watch this video?"""

import icekeel as ik


class Show(ik.Request):
    """A video that is about to be shown."""

    show_id: ik.Id
    user: ik.Id
    video: ik.Id
    author: ik.Id
    tag: ik.Cat
    place: ik.Cat
    seconds: ik.Num


class Clicks(ik.Events, time="seen_at", available="known_at", id="show_id", source="clicks.parquet"):
    """A click, and how much was watched; known once the play is over."""

    show_id: ik.Id
    user: ik.Id
    video: ik.Id
    author: ik.Id
    tag: ik.Cat
    share: ik.Num
    watched: ik.Num
    known_at: ik.Time


mine = Clicks.where(user=Show.user).last("14d")
video = Clicks.where(video=Show.video).last("14d")
author = Clicks.where(author=Show.author).last("14d")
like = Clicks.where(user=Show.user, tag=Show.tag).last("14d")


class Features(ik.Features):
    """Counts of clicks, meant or not."""

    place = Show.place
    tag = Show.tag
    seconds = Show.seconds
    mine_n = mine.count()
    video_n = video.count()
    author_n = author.count()
    like_n = like.count()


watch = ik.Model(
    "watch",
    Show,
    Features,
    history=ik.table_of(Show, "shows.parquet", asked_at="asked_at"),
    target=Clicks.where(show_id=Show.show_id).within("1d").count() > 0,
    error="log_loss",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=5_000)),
    audits=ik.Audits(meaningful=(Clicks.watched >= 3, Clicks.share >= 0.3, Clicks.share >= 0.9)),
)
