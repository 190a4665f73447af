// sigmoid, and the elementary functions by themselves.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
private struct SigmoidCall {
  var x: Input
  var upstream: Input?
  var output: Output?
  var gradient: Output?
  var count: Int
  var isStreamed: Bool

  @inline(__always)
  init(_ call: SigmoidElements) {
    x = call.x.assumingMemoryBound(to: Element.self)
    upstream = call.upstream?.assumingMemoryBound(to: Element.self)
    output = call.output?.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    count = call.count
    let isInPlace = isAt(call.output, call.x) || isAt(call.gradient, call.x)
    isStreamed = call.isStreamed && !isInPlace
  }
}

/// The whole vectors where they are aligned for streaming, and what is before and behind them in tiles.
func sigmoidElements(_ pointer: UnsafePointer<SigmoidElements>) {
  var c = SigmoidCall(pointer.pointee)
  guard let first = c.output ?? c.gradient else { return }
  let count = c.count
  var head = c.isStreamed ? misalignment(first) : 0
  if head > count { head = count }
  if c.isStreamed, let output = c.output, let gradient = c.gradient {
    c.isStreamed = misalignment(output) == misalignment(gradient)
  }
  if head > 0 { some(c, 0, head) }
  let whole = (count &- head) / width &* width
  c.x += head
  c.upstream = offset(c.upstream, head)
  c.output = offset(c.output, head)
  c.gradient = offset(c.gradient, head)
  c.count = whole
  if c.gradient == nil { forward(c) } else { gradients(c) }
  if head &+ whole < count { some(SigmoidCall(pointer.pointee), head &+ whole, count) }
}

/// 1 / (1 + exp(-x)) with both terms divided by 2^26 (float64: 2^60), so that neither overflows nor the
/// inverse is denormal: the last multiplication rounds where the result is.
@inline(__always)
private func sigmoid(_ x: Lanes) -> Lanes {
  // Beyond these it is 1, and 0.
  let y = lanes_larger(lanes_smaller(0 - x, all(Format.sigmoidMax)), all(Format.sigmoidMin))
  return lanes_inverse(loweredExp(y) + Format.unlift) * Format.unlift
}

@inline(never)
private func forward(_ c: SigmoidCall) {
  guard let y = c.output else { return }
  var i = 0
  if c.isStreamed {
    while i < c.count {
      lanes_stream(y + i, sigmoid(load(c.x, i)))
      i &+= width
    }
    return
  }
  while i < c.count {
    store(sigmoid(load(c.x, i)), y, i)
    i &+= width
  }
}

/// e / (1 + e)^2 with e = exp(-|x|); the output too where it is wanted. The square is 1 + e (e + 2): the inverse of
/// 1 + e, squared, would have its errors twice.
@inline(never)
private func gradients(_ c: SigmoidCall) {
  guard let gradient = c.gradient else { return }
  var i = 0
  while i < c.count {
    let x = load(c.x, i)
    let e = liftedExp(negativeMagnitude(x))
    let square = fma(e * Format.unlift, fma(e, Format.unlift, all(2)), all(1))
    var slope = e * lanes_inverse(square) * Format.unlift
    if let upstream = c.upstream { slope = slope * load(upstream, i) }
    if let output = c.output {
      let large = lanes_inverse(fma(e, Format.unlift, all(1)))
      let small = e * large * Format.unlift
      let y = lanes_pick(lanes_less(x, all(0)), small, large)
      if c.isStreamed { lanes_stream(output + i, y) } else { store(y, output, i) }
    }
    if c.isStreamed { lanes_stream(gradient + i, slope) } else { store(slope, gradient, i) }
    i &+= width
  }
}

/// Elements from ..< to, fewer than a vector, by a padded copy.
@inline(never)
private func some(_ c: SigmoidCall, _ from: Int, _ to: Int) {
  var tile = Tile()
  let t = UnsafeMutableRawPointer(tile.pointer()).assumingMemoryBound(to: Element.self)
  var padded = c
  let count = to &- from
  padded.count = width
  padded.isStreamed = false
  copy(c.x + from, t, count)
  padded.x = Input(t)
  if let upstream = c.upstream {
    copy(upstream + from, t + width, count)
    padded.upstream = Input(t + width)
  }
  if c.output != nil { padded.output = t + 2 &* width }
  if c.gradient != nil { padded.gradient = t + 3 &* width }
  if c.gradient == nil { forward(padded) } else { gradients(padded) }
  if let output = c.output { copy(Input(t + 2 &* width), output + from, count) }
  if let gradient = c.gradient { copy(Input(t + 3 &* width), gradient + from, count) }
}

@inline(__always)
func copy(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = x[i]
    i &+= 1
  }
}

// MARK: - Elementary functions

@inline(__always)
private func eachElement(_ x: Input, _ y: Output, _ count: Int, _ function: (Lanes) -> Lanes) {
  eachVector(count) {
    store(function(load(x, $0)), y, $0)
  } rest: { first, rest in
    var tile = Tile()
    let t = UnsafeMutableRawPointer(tile.pointer()).assumingMemoryBound(to: Element.self)
    copy(x + first, t, rest)
    store(function(load(t, 0)), t, 0)
    copy(t, y + first, rest)
  }
}

func expElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { exp($0) } }

func logElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { log($0) } }

func log1pElements(_ x: Input, _ y: Output, _ count: Int) {
  eachElement(x, y, count) { log1pOfAny($0) }
}
