import FuzzSupport
import LossdTensor
import LossdWire

/// EvaluateRequests with inline tensors, parted as they come. An input is a byte that says how many
/// bytes of cuts follow, the cuts, and the request. Cuts change nothing, and what comes out says
/// the same as the request: the message that is left, and each tensor's bytes.
@main struct Splits {
  static func main() {
    fuzz { input in
      let cuts = input.take(Int(input.byte() & 31))
      let request = input.rest()
      let whole = Split(request, cuts: UnsafeRawBufferPointer(start: nil, count: 0))
      let pieces = Split(request, cuts: cuts)
      require(whole.failure == pieces.failure, "whole: \(whole.failure ?? "-"), in pieces another")
      if whole.failure != nil { return }
      require(whole.head == pieces.head && whole.payload == pieces.payload, "cuts change it")
      require(whole.payload.count <= request.count + RequestSplitter.paddingBytesMax, "too much")
      compare(request, whole)
    }
  }

  private static func compare(_ request: UnsafeRawBufferPointer, _ split: Split) {
    let (first, second) = (MessageArena(), MessageArena())
    split.head.withUnsafeBytes { head in
      guard let before = try? EvaluateRequestMessage(decoding: request, in: first),
        let after = try? EvaluateRequestMessage(decoding: head, in: second)
      else { return }
      require(before.function.elementsEqual(after.function), "another function")
      require(before.id == after.id, "another id")
      require(
        before.inputCount == after.inputCount && before.attributeCount == after.attributeCount
          && before.outputCount == after.outputCount, "other counts")
      for index in 0..<before.inputCount {
        let (old, new) = (before.input(index), after.input(index))
        require(old.name.elementsEqual(new.name) && old.dataType == new.dataType, "another tensor")
        require(old.shape.elementsEqual(new.shape), "another shape")
        guard case .inline(let data) = old.storage, data.count > 0 else { continue }
        guard case .payload(let offset, let length) = new.storage, offset % 64 == 0,
          offset + length <= UInt64(split.payload.count)
        else { fatalError("a tensor of \(data.count) bytes is not in the payload") }
        let place = split.payload[Int(offset)..<Int(offset + length)]
        require(place.elementsEqual(data), "a tensor's bytes are others")
      }
    }
  }
}

/// One splitter's work.
struct Split {
  var failure: String?
  var head: [UInt8] = []
  var payload: [UInt8] = []

  init(_ request: UnsafeRawBufferPointer, cuts: UnsafeRawBufferPointer) {
    let room = request.count + RequestSplitter.paddingBytesMax
    let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
    defer { memory.deallocate() }
    let splitter = RequestSplitter()
    do throws(StatusError) {
      splitter.begin(request.count, payload: memory, headBytesMax: 1 << 16)
      var rest = request[...]
      var cut = 0
      while !rest.isEmpty {
        let piece = rest.prefix(cut < cuts.count ? max(Int(cuts[cut]), 1) : rest.count)
        cut += 1
        rest = rest.dropFirst(piece.count)
        try splitter.take(UnsafeRawBufferPointer(rebasing: piece))
      }
      try splitter.finish()
      head = Array(splitter.head)
      payload = Array(UnsafeRawBufferPointer(start: memory, count: splitter.payloadBytes))
    } catch {
      require(error.message.utf8.count < 500, "a long text")
      failure = error.message
    }
  }
}
