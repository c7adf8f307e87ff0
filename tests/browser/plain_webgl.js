// Without a graphics card the browser computes each pixel of a WebGL canvas on the processor. The canvas on which damage
// is marked asks, for each, for as many textures as a card has, and for four samples. As on the plainest of cards, which
// have one texture and one sample, it shows the same several times sooner.
for (const { prototype } of [WebGLRenderingContext, WebGL2RenderingContext]) {
  const getParameter = prototype.getParameter;
  prototype.getParameter = function (name) {
    return name === this.MAX_TEXTURE_IMAGE_UNITS ? 1 : getParameter.call(this, name);
  };
}

const storage = WebGL2RenderingContext.prototype.renderbufferStorageMultisample;
WebGL2RenderingContext.prototype.renderbufferStorageMultisample = function (target, samples, ...rest) {
  return storage.call(this, target, 0, ...rest);
};

const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return getContext.call(this, kind, kind.startsWith("webgl") ? { ...options, antialias: false } : options);
};
