// The connection: views of the session in, commands out. A view counts as shown once it has been painted.

export class Live {
  constructor(receive, ended) {
    const key = encodeURIComponent(location.hash.slice(1));
    this.socket = new WebSocket(`ws://${location.host}/live?key=${key}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => receive(...unpack(event.data));
    this.socket.onclose = () => ended();
  }

  send(command) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(command));
  }
}

// Length of the header, the header, then RGB bytes of each picture or the bytes of a film.
function unpack(data) {
  const size = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  let offset = 4 + size;
  const pictures = new Map();
  for (const [name, height, width] of header.pictures) {
    pictures.set(name, { height, width, rgb: new Uint8Array(data, offset, height * width * 3) });
    offset += height * width * 3;
  }
  return [header, pictures, data.slice(offset)];
}

export function paint(canvas, picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(picture.width, picture.height);
  const { rgb } = picture;
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    image.data[to] = rgb[from];
    image.data[to + 1] = rgb[from + 1];
    image.data[to + 2] = rgb[from + 2];
    image.data[to + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
