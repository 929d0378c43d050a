// What has been seen so far: the rows of the real episode, and those of each dream.

export class History {
  constructor() {
    this.begin(0);
  }

  begin(episode) {
    this.episode = episode;
    this.real = []; // by row: what a view says of it
    this.followers = []; // dreams of Watch: {id, start, rows}, by start
    this.free = null; // the dream of Branch or Steer
  }

  take(view) {
    if (view.episode !== this.episode) this.begin(view.episode);
    this.real[view.at] = { ...view.real, vectors: view.vectors.real, seen: view.vectors.reconstruction };
    const track = view.mode === "watch" ? this.follower(view) : this.freeDream(view);
    track.rows.length = Math.min(track.rows.length, view.length);
    track.rows[view.step] = { ...view.dream, vectors: view.vectors.dream };
    if (view.mode === "watch") this.free = null;
    return track;
  }

  follower(view) {
    let track = this.followers.find((item) => item.id === view.dream_id);
    if (!track) {
      track = { id: view.dream_id, start: view.start, rows: [] };
      this.followers = [...this.followers.filter((item) => item.start < view.start), track];
      for (const item of this.followers.slice(0, -1)) item.rows.length = Math.min(item.rows.length, view.start - item.start);
    }
    return track;
  }

  freeDream(view) {
    if (this.free?.id !== view.dream_id) this.free = { id: view.dream_id, start: view.start, rows: [] };
    return this.free;
  }
}
