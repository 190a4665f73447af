import LossdTensor
import Testing

@testable import LossdServer

@Suite struct StreamTableTests {
  @Test("the calls found are those that were added and not removed, in the order of their ids")
  func model() throws {
    let test = try TestLoop()
    defer { test.close() }
    var numbers = Numbers(seed)
    var table = StreamTable()
    var model: [UInt32: StreamCall] = [:]
    var (highest, spare) = (UInt32(0), [StreamCall]())
    for step in 0..<3000 {
      // Phases that grow, and phases that shrink.
      let grows = step / 300 % 2 == 0 ? 3 : 1
      if Int.random(in: 0..<4, using: &numbers) < grows {
        highest += UInt32.random(in: 1...5, using: &numbers)
        let call = spare.popLast() ?? StreamCall(test.context)
        table.add(highest, call)
        model[highest] = call
      } else if let id = model.keys.sorted().randomElement(using: &numbers) {
        let call = table.remove(id)
        #expect(call === model[id], "LOSSD_SEED=\(seed)")
        model[id] = nil
        if let call { spare.append(call) }
      }
      let id = UInt32.random(in: 0...highest + 1, using: &numbers)
      #expect(table[id]?.object === model[id], "LOSSD_SEED=\(seed): \(id)")
      if model[id] == nil { #expect(table.remove(id) == nil) }
      #expect(table.count == model.count && table.isEmpty == model.isEmpty)
      if step % 50 == 0 {
        let sorted = model.keys.sorted().map { model[$0] }
        #expect(table.calls.elementsEqual(sorted, by: { $0 === $1 }), "LOSSD_SEED=\(seed)")
        let wanted = sorted.last ?? nil
        #expect(table.contains { $0 === wanted } == (wanted != nil))
      }
    }
  }
}
