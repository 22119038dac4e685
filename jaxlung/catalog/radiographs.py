"""The public sets of chest X-rays."""

from jaxlung.catalog.entry import NamedSet
from jaxlung.structures import (
    HEART,
    LEFT_CLAVICLE,
    LEFT_LUNG,
    LUNG,
    LUNG_AND_HEART,
    RIGHT_CLAVICLE,
    RIGHT_LUNG,
)

_NLM = "free with credit to the U.S. National Library of Medicine and both citations"
_NLM_CITATION = """
S. Jaeger et al. Automatic tuberculosis screening using chest radiographs.
IEEE Transactions on Medical Imaging 33(2), 2014. doi:10.1109/TMI.2013.2284099
S. Candemir et al. Lung segmentation in chest radiographs using anatomical atlases with nonrigid
registration. IEEE Transactions on Medical Imaging 33(2), 2014. doi:10.1109/TMI.2013.2290491
""".strip()
_SHENZHEN_MASKS = """
S. Stirenko et al. Chest X-ray analysis of tuberculosis by deep learning with segmentation and
augmentation. IEEE ELNANO, 2018. arXiv:1803.01199
""".strip()
_NLM_HOMEPAGE = "https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html"
_COVID_CXR = NamedSet(
    name="covid_cxr",
    description="COVID-19 and other pneumonias; radiologists' outlines of lungs and heart",
    n=99,
    convention=LUNG,
    terms="annotations CC BY 4.0; each image its own licence, in metadata.csv: some forbid "
    "commercial use",
    instructions="Run, in the folder of manual downloads: git clone --depth 1 "
    "https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset covid_cxr. "
    "covid_cxr/ then holds images/, metadata.csv and structure.csv with masks/ (or the COCO file "
    "annotation/results.json).",
    homepage="https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",
    citation="General Blockchain, Inc. COVID-19 chest X-ray segmentations dataset, 2020.\n"
    "J. P. Cohen et al. COVID-19 image data collection: prospective predictions are the future. "
    "2020. arXiv:2006.11988",
    builder="covid_cxr",
    others=(RIGHT_LUNG, LEFT_LUNG, HEART),
)

RADIOGRAPHS = (
    NamedSet(
        name="montgomery",
        description="tuberculosis screening, Montgomery County, USA; clean manual masks",
        n=138,
        convention=LUNG,
        terms=_NLM,
        manual=False,
        instructions="By hand: fetch NLM-MontgomeryCXRSet.zip (0.6 GB) and unpack it into "
        "montgomery/ in the folder of manual downloads, so that "
        "montgomery/MontgomerySet/CXR_png exists.",
        homepage=_NLM_HOMEPAGE,
        citation=_NLM_CITATION,
        builder="montgomery",
        published=(96, 14, 28),
        others=(RIGHT_LUNG, LEFT_LUNG),
        findings={r"MCUCXR_\d+_0": "normal", r"MCUCXR_\d+_1": "tuberculosis"},
    ),
    NamedSet(
        name="shenzhen",
        description="tuberculosis screening, Shenzhen, China; noisy masks of volunteers",
        n=566,
        convention=LUNG,
        terms=f"images {_NLM}; masks CC BY-NC-SA 4.0: no commercial use, share alike",
        instructions="Download the masks from "
        "https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask (log-in) and unpack them "
        "into shenzhen/, so that shenzhen/mask/ holds CHNCXR_0001_0_mask.png and so on. The "
        "images are downloaded (3.8 GB); where the host cannot be reached, unpack "
        "ChinaSet_AllFiles.zip into shenzhen/ as well.",
        homepage=_NLM_HOMEPAGE,
        citation=f"{_NLM_CITATION}\n{_SHENZHEN_MASKS}",
        builder="shenzhen",
        published=(396, 56, 114),
        findings={r"CHNCXR_\d+_0": "normal", r"CHNCXR_\d+_1": "tuberculosis"},
    ),
    NamedSet(
        name="jsrt",
        description="films with and without a lung nodule, Japan; SCR's masks of five organs",
        n=247,
        convention=LUNG,
        terms="images by JSRT's terms of registration; masks for research and education: no "
        "redistribution, no commercial use",
        instructions="Register at http://db.jsrt.or.jp/eng.php, download the images and unpack "
        "them into jsrt/All247images/ (JPCLN001.IMG and so on). Download the SCR masks as "
        "https://www.isi.uu.nl/Research/Databases/SCR/ says and unpack them, so that "
        "jsrt/scratch/fold1/masks/ and fold2/masks/ hold the folders left lung, right lung, "
        "heart, left clavicle and right clavicle.",
        homepage="http://db.jsrt.or.jp/eng.php",
        citation="""
J. Shiraishi et al. Development of a digital image database for chest radiographs with and without
a lung nodule. American Journal of Roentgenology 174, 2000. doi:10.2214/ajr.174.1.1740071
B. van Ginneken, M. B. Stegmann, M. Loog. Segmentation of anatomical structures in chest radiographs
using supervised methods. Medical Image Analysis 10(1), 2006. doi:10.1016/j.media.2005.02.002
""".strip(),
        builder="jsrt",
        published=(172, 25, 50),
        folds=True,
        others=(RIGHT_LUNG, LEFT_LUNG, HEART, RIGHT_CLAVICLE, LEFT_CLAVICLE),
    ),
    _COVID_CXR,
    _COVID_CXR._replace(
        name="covid_cxr_lung_and_heart",
        description="covid_cxr with the cardiomediastinum counted as lung",
        convention=LUNG_AND_HEART,
        others=(LUNG, RIGHT_LUNG, LEFT_LUNG, HEART),
        same_images=("covid_cxr",),
    ),
    NamedSet(
        name="covid19_radiography",
        description="COVID-19, lung opacity, viral pneumonia and normal; masks by a model",
        n=21165,
        convention=LUNG,
        terms="academic and non-commercial use only (check the page before you download)",
        instructions="Download "
        "https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database (log-in) "
        "and unpack it into covid19_radiography/, so that "
        "covid19_radiography/COVID-19_Radiography_Dataset/ holds COVID, Lung_Opacity, Normal "
        "and Viral Pneumonia, each with images/ and masks/.",
        homepage="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        citation="""
M. E. H. Chowdhury et al. Can AI help in screening viral and COVID-19 pneumonia? IEEE Access 8,
2020. doi:10.1109/ACCESS.2020.3010287
T. Rahman et al. Exploring the effect of image enhancement techniques on COVID-19 detection using
chest X-ray images. Computers in Biology and Medicine 132, 2021.
doi:10.1016/j.compbiomed.2021.104319
""".strip(),
        builder="covid19_radiography",
        # Its COVID-19 films are partly Cohen's collection; its normal films and opacities are
        # the RSNA challenge's, which were chosen from ChestX-ray14. Its viral pneumonias and
        # 1341 normal films are Kermany's.
        shared_images=("covid_cxr", "covid_cxr_lung_and_heart", "chexmask", "kermany_v7"),
    ),
    NamedSet(
        name="chest_xray_masks_and_labels",
        description="Montgomery and Shenzhen as merged on Kaggle: do not mix with either",
        n=704,
        convention=LUNG,
        terms=f"images {_NLM}; masks CC BY-NC-SA 4.0 (Shenzhen): no commercial use, share alike",
        instructions="Download "
        "https://www.kaggle.com/datasets/nikhilpandey360/chest-xray-masks-and-labels (log-in) "
        "and unpack it into chest_xray_masks_and_labels/, so that "
        "chest_xray_masks_and_labels/Lung Segmentation/ holds CXR_png/ and masks/.",
        homepage="https://www.kaggle.com/datasets/nikhilpandey360/chest-xray-masks-and-labels",
        citation=f"{_NLM_CITATION}\n{_SHENZHEN_MASKS}",
        builder="chest_xray_masks_and_labels",
        same_images=("montgomery", "shenzhen"),
    ),
    NamedSet(
        name="chexmask",
        description="ChestX-ray14 with CheXmask's masks, by a model (n: before its filter)",
        n=112120,
        convention=LUNG,
        terms="masks CC BY 4.0; images free, with a link to the NIH's page, Wang 2017 cited "
        "and the NIH Clinical Center named as the provider",
        instructions="Download OriginalResolution/ChestX-Ray8.csv from "
        "https://physionet.org/content/chexmask-cxr-segmentation-data/ into chexmask/, and "
        "Data_Entry_2017_v2020.csv and the image archives from "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC; unpack the archives into "
        "chexmask/images/.",
        homepage="https://physionet.org/content/chexmask-cxr-segmentation-data/",
        citation="""
N. Gaggion et al. CheXmask: a large-scale dataset of anatomical segmentation masks for multi-center
chest x-ray images. 2023. arXiv:2307.03293
X. Wang et al. ChestX-ray8: hospital-scale chest X-ray database and benchmarks on weakly-supervised
classification and localization of common thorax diseases. CVPR 2017. doi:10.1109/CVPR.2017.369
""".strip(),
        builder="chexmask",
        others=(RIGHT_LUNG, LEFT_LUNG, HEART),
    ),
    NamedSet(
        name="kermany_v7",
        description="children of 1 to 5 years, normal or pneumonia, Guangzhou; V7's outlines "
        "reviewed by people (n: before the builder's checks)",
        n=5856,
        convention=LUNG_AND_HEART,
        terms="images and masks CC BY 4.0: any use, with credit to both",
        instructions="Download ChestXRay2017.zip (1.2 GB) from "
        "https://data.mendeley.com/datasets/rscbjbr9sj/2 into kermany_v7/ and run there: git "
        "clone --depth 1 https://github.com/v7labs/covid-19-xray-dataset. Archives may stay "
        "packed; unpacked, kermany_v7/ holds chest_xray/train and test/, each with NORMAL/ and "
        "PNEUMONIA/, and covid-19-xray-dataset/annotations/all-images/ of .json files.",
        homepage="https://github.com/v7labs/covid-19-xray-dataset",
        citation="""
D. Kermany, K. Zhang, M. Goldbaum. Labeled optical coherence tomography (OCT) and chest X-ray images
for classification. Mendeley Data, V2, 2018. doi:10.17632/rscbjbr9sj.2
V7 Labs, CloudFactory. COVID-19 X-ray dataset, 2020.
https://github.com/v7labs/covid-19-xray-dataset
""".strip(),
        builder="kermany_v7",
        # No findings: OsiriX calls any film IM-0001-0001, as the normal ones are called here.
    ),
)
