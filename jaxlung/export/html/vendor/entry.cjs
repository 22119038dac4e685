exports.JpxImage = require("daikon/lib/jpx.js");
exports.JpegLs = require("daikon/lib/jpeg-ls.js");
exports.JpegImage = require("daikon/lib/jpeg-baseline.js").JpegImage;
exports.JpegLossless = require("jpeg-lossless-decoder-js").lossless.Decoder;
