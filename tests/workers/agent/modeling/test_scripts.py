"""The same feedback in several scripts, learned about equally well."""

import itertools
import random
from pathlib import Path

import pytest

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.training.local_epochs import train

# Frames, things, and words of praise and of complaint.
_Parts = tuple[list[str], list[str], list[str], list[str]]
SCRIPTS: dict[str, _Parts] = {
    "english": (
        ["the {} I bought is {}", "this {} really is {}", "the new {} seems {}", "my {} is too {}"],
        ["stove", "tent", "desk", "lamp", "scarf", "kettle", "radio", "clock", "bag", "chair"],
        ["handy", "pretty", "quiet", "sturdy", "bright"],
        ["ugly", "clumsy", "loud", "fragile", "dull"],
    ),
    "chinese": (
        ["我买的{}很{}", "这个{}真的{}", "新到的{}看来{}", "家里的{}太{}"],
        ["炉子", "帐篷", "书桌", "台灯", "围巾", "水壶", "收音机", "时钟", "背包", "椅子"],
        ["好用", "漂亮", "安静", "结实", "明亮"],
        ["难看", "难用", "吵闹", "脆弱", "昏暗"],
    ),
    "japanese": (
        ["買った{}はとても{}です", "この{}は本当に{}です", "新しい{}は{}ようだ", "うちの{}は{}すぎる"],
        ["ストーブ", "テント", "机", "ランプ", "マフラー", "やかん", "ラジオ", "時計", "かばん", "椅子"],
        ["便利", "きれい", "静か", "丈夫", "明るい"],
        ["醜い", "不器用", "うるさい", "壊れやすい", "暗い"],
    ),
    "thai": (
        ["{}ที่ฉันซื้อ{}มาก", "{}นี้{}จริงๆ", "{}ใหม่ดู{}", "{}ที่บ้าน{}เกินไป"],
        ["เตา", "เต็นท์", "โต๊ะ", "โคมไฟ", "ผ้าพันคอ", "กาน้ำ", "วิทยุ", "นาฬิกา", "กระเป๋า", "เก้าอี้"],
        ["สะดวก", "สวยงาม", "เงียบ", "แข็งแรง", "สว่าง"],
        ["น่าเกลียด", "เกะกะ", "เสียงดัง", "เปราะบาง", "มืดมัว"],
    ),
    "hindi": (
        ["मेरा खरीदा {} बहुत {} है", "यह {} सच में {} है", "नया {} {} लगता है", "घर का {} ज़्यादा {} है"],
        ["चूल्हा", "तंबू", "मेज़", "दीपक", "दुपट्टा", "केतली", "रेडियो", "घड़ी", "थैला", "कुर्सी"],
        ["उपयोगी", "सुंदर", "शांत", "मज़बूत", "चमकीला"],
        ["भद्दा", "बेढंगा", "शोरगुल", "नाज़ुक", "धुंधला"],
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_cnn_learns_feedback_in_every_script(script: str, tmp_path: Path) -> None:
    frames, things, praise, complaint = SCRIPTS[script]
    judged = [(word, "positive") for word in praise] + [(word, "negative") for word in complaint]
    samples = [(frame.format(thing, word), label) for frame, thing, (word, label) in itertools.product(frames, things, judged)]
    random.Random(0).shuffle(samples)
    spec = ModelSpec(architecture="cnn", model="base", labels=["negative", "positive"], max_length=64)
    network = build(spec, SandboxRoot(tmp_path))
    training, test = (network.encoded(*zip(*part, strict=True)) for part in (samples[:300], samples[300:]))
    wanted = Hyperparameters(local_epochs=3, batch_size=16, learning_rate=1e-3, optimizer="adam")
    train(network, EncodedShard(training, training), job(wanted))
    assert loss_and_accuracy(network, test)[1] >= 0.98
