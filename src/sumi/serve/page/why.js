// What the settings are called on the page, and why one would turn them. What they are, the server says; a field that is not here goes
// by its own name.
//   about[name] = {title, why, slide: [low, high, step]}: slide is the part of the range that a slider covers

export const about = {
  emphasis: {
    title: "Emphasis",
    why: "Weights change how large the vectors of words are. With their mean brought back, heavy weights do not burn the picture.",
  },
  clip_skip: {
    title: "Clip skip",
    why: "Some models were trained on a layer before the last, and draw better when they are read there. Most were not: then leave it.",
  },
  width: {
    title: "Width",
    why: "Models draw best near the size they were trained at. Much larger, and things come twice; much smaller, and they fall apart.",
  },
  height: { title: "Height", why: "As with width: far from the model's own size, figures are doubled or cut." },
  label: { title: "Class", why: "A class that the model was trained with is surer than a word, for it cannot be misread." },
  seamless: { title: "Seamless edges", why: "For wallpaper and textures: what leaves on one side comes in on the other." },
  strength: {
    title: "Strength", slide: [0, 1, 0.01],
    why: "Low keeps the picture and changes its surface; high keeps only its broad forms. At 1 nothing of it is left.",
  },
  exact: {
    title: "All steps",
    why: "Otherwise a strength of 0.5 runs only half of the steps. With this, small changes are made as finely as large ones.",
  },
  noise_multiplier: {
    title: "Starting noise", slide: [0.8, 1.2, 0.01],
    why: "A little more than 1 makes the model invent more detail; a little less makes it smoother.",
  },
  image_guidance: {
    title: "Image guidance", slide: [0, 5, 0.1],
    why: "Higher keeps nearer to the picture given, lower nearer to the words.",
  },
  mask_grow: {
    title: "Grow mask", slide: [-32, 64, 1],
    why: "A mask drawn tightly leaves a rim of the old picture. A few pixels more take it away.",
  },
  mask_blur: { title: "Blur mask", why: "A soft edge hides the seam where light and grain differ.", slide: [0, 64, 0.5] },
  mask_invert: { title: "Invert mask", why: "When it is easier to paint what should stay." },
  depth: { title: "Depth", why: "Keeps the arrangement in space, and leaves colours and surfaces free." },
  like: { title: "Like", why: "Gives the model the sense of a picture, without its outlines." },
  level: {
    title: "Noise level", slide: [0, 350, 1],
    why: "Noise hides flaws of the picture given, so that the model draws details anew instead of sharpening mistakes.",
  },
  hires: {
    title: "Enlarge by", slide: [1, 4, 0.25],
    why: "A small picture has the better composition, a large one the better detail: this makes the first and then the second.",
  },
  hires_strength: {
    title: "Enlarging strength", slide: [0, 1, 0.01],
    why: "High redraws detail and may change things; low only sharpens.",
  },
  hires_steps: { title: "Enlarging steps", why: "Fewer are often enough, as the picture is there already.", slide: [1, 60, 1] },
  tile: { title: "Tile", why: "A large picture made in windows needs the memory of a small one.", slide: [8, 1024, 8] },
  tile_overlap: { title: "Tile overlap", why: "More overlap hides the seams between windows, and takes longer.", slide: [0, 512, 8] },
  seed: {
    title: "Seed",
    why: "The same seed with the same settings gives the same picture, to the bit. Keep it to see what one setting alone changes.",
  },
  first: { title: "First number", why: "Picture 3 of a seed is the same however many are made: so one of a series can be had alone." },
  count: { title: "Pictures", why: "A prompt has many pictures. Making a few, and keeping one, is the fastest way to a good one." },
  variation: {
    title: "Variation", slide: [0, 1, 0.01],
    why: "A small step towards other noise keeps the picture, and changes its particulars.",
  },
  variation_seed: { title: "Variation seed", why: "Which way that step goes." },
  noise: { title: "Noise of", why: "Other programs draw other noise for a seed. Choose theirs to make one of their pictures again." },
  sampler: {
    title: "Sampler",
    why: "All walk from noise to a picture; some need fewer steps, and those that add noise on the way never settle on one picture.",
  },
  spacing: { title: "Spacing", why: "Where the steps are spent: on the broad forms at the start, or on detail at the end." },
  steps: {
    title: "Steps", slide: [1, 60, 1],
    why: "More steps follow the path more closely. Beyond some 30 there is little left to see, and it takes as much longer.",
  },
  sigmas: { title: "Noise levels", why: "For experiments: each level by itself, from noise to none." },
  eta: {
    title: "Eta", slide: [0, 1, 0.01],
    why: "Fresh noise in each step corrects mistakes of earlier ones, and makes the result depend on the number of steps.",
  },
  options: { title: "Options of the sampler", why: "Each sampler's own, as its authors describe them." },
  guidance: {
    title: "Guidance", slide: [1, 15, 0.1],
    why: "Higher shows more of what was asked, in less variety and harder colours. At 1 the negative prompt has no effect.",
  },
  guidance_method: { title: "Guidance method", why: "Strong guidance glares: cfg++ and apg follow the prompt with less of that." },
  guidance_rescale: { title: "Rescale guidance", why: "Takes back the contrast that strong guidance adds.", slide: [0, 1, 0.01] },
  guidance_interval: {
    title: "Guide between",
    why: "Guidance at the very start narrows what can come, and at the very end only costs time: between is often enough.",
  },
  pag: {
    title: "Perturbed attention", slide: [0, 10, 0.1],
    why: "Leads away from a picture without structure: helps models of few words.",
  },
  skip: {
    title: "Skip layer", slide: [0, 10, 0.1],
    why: "Leads away from what the network draws without one of its layers: firmer forms.",
  },
  sag: { title: "Self-attention", why: "Leads away from a blurred picture: more detail where the network looks.", slide: [0, 10, 0.1] },
  threshold: {
    title: "Threshold", slide: [0.5, 1, 0.005],
    why: "Strong guidance drives values out of range; this brings the farthest of them back.",
  },
  mimic: {
    title: "Mimic guidance", slide: [1, 15, 0.1],
    why: "The range of values of a weaker guidance, with the obedience of the stronger.",
  },
};
