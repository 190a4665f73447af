internal import CLossdLanes

/// The cache line that one row ends in and the next begins: written past the cache as a whole, since the
/// parts of it by themselves would each have to wait for the line to be read.
struct Seam {
  private typealias Room = (Lanes, Lanes, Lanes)
  /// The line's elements are the second vector's; the others are room for whole vectors to be put there.
  private var room: Room = (all(0), all(0), all(0))
  /// What is in it so far: elements from its beginning.
  private var filled = 0
  private var line: Output?

  @inline(__always)
  init() {}

  @inline(__always)
  private mutating func elements() -> Output {
    // Used only within the call that asks for it.
    withUnsafeMutablePointer(to: &room) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Element.self)
    }
  }

  /// The first `head` elements of a row, whose first vector is `first`.
  @inline(__always)
  mutating func begin(_ y: Output, _ head: Int, _ first: Lanes) {
    if filled &+ head == width, line == y - filled {
      let e = elements()
      store(first, e, 2 &* width &- head)
      lanes_stream(y - filled, load(e, width))
      filled = 0
    } else {
      flush()
      storePart(first, y, 0, head)
    }
  }

  /// The last `rest` elements of a row, the first of a line at `y`; the row's last vector is `last`.
  @inline(__always)
  mutating func end(_ y: Output, _ rest: Int, _ last: Lanes) {
    store(last, elements(), rest)
    line = y
    filled = rest
  }

  /// Writes what nobody has completed.
  @inline(__always)
  mutating func flush() {
    guard filled > 0, let line else { return }
    storePart(load(elements(), width), line, 0, filled)
    filled = 0
  }
}
